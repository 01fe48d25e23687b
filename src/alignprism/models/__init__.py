"""Everything that asks a model: engines, the call store, chat templates, identity and the embedded models."""
