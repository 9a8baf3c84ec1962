"""The detail stage: a small network that draws a face of the decoder at twice its side, and how it is trained.

It learns from photographs that have the detail, seen through a degradation, and from the decoder's own drawings, for
which no larger original exists.
"""
