"""Prompts: reading the sample and own files, checking them, splitting by seed cluster, freezing the test set."""
