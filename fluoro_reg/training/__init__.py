"""Training on a patient's own CT: synthetic X-rays made on the fly, losses, the trainer. Nothing at run time imports it."""
