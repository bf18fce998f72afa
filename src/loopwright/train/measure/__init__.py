"""Measuring before and while training: batch size, learning rate, speed, profiles."""
