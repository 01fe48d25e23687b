"""SFT and DPO: pairs become token ids once, one scorer, pure losses, a stored reference, one resumable loop."""
