"""From photographs to shipped networks: prepare the faces, train, evaluate, export. The only place with PyTorch."""
