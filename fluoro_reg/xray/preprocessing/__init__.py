"""Preprocessing of X-rays: conversion of pixels to attenuation, and a mask of the usable pixels."""
