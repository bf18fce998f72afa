"""What statements did: their calls, tensors, gradients, graphs, memory, and what things are called."""
