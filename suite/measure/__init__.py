"""Times each implementation beside torch.nn.LSTM, in paired rounds."""
