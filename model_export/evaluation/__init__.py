"""What the served networks do with faces that training never saw."""
