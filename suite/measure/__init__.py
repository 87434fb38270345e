"""Timing against torch.nn.LSTM, in visits to fresh processes."""
