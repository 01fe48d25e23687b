"""From prompts to preference data: candidates are sampled, ranked into pairs, and mixed with general pairs."""
