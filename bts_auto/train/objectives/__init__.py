"""What is learnt: an objective owns modules and optimisers and yields the losses of each phase of a step."""
