"""Timing against torch.nn.LSTM in paired rounds, and studies."""
