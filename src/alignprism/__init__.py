"""alignprism: make a multilingual language model less harmful in every language it speaks, and prove it."""

__version__ = "0.1.0"
