"""Training: a recipe as data, a loop that can be resumed, and evaluation.

The backbone is frozen, up to its last stage or whole, so that its maps are computed once and a
network is trained in minutes on a CPU. The paper's own recipe, which trains all of it, is not here
yet.
"""
