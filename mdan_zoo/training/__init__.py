"""Training: a recipe as data, a loop that can be resumed, and evaluation.

The paper's recipes and its data sets differ in scale, not in kind, from what is here: a backbone
that is frozen, so that its maps are computed once and a network is trained in minutes on a CPU.
"""
