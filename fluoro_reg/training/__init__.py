"""Training of pose regressors and learned similarities on synthetic X-rays of CTs. Nothing at run time imports this package."""
