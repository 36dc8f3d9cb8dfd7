"""What is simulated: a problem, its noise, an optimizer, step sizes, a run.

================  ===============================================================
`problem`         `Quadratic`: a spectrum, a noise model, an initial state
`spectrum`        eigenvalues with multiplicities
`noise`           models of the gradient noise, additive and of mini-batches
`optimizer`       SGD and momentum
`stability`       how far a step size is from the edge
`step_size`       step sizes: known in advance, or functions of the row
`built_in_steps`  the rules of the package
`moves`           many steps of known size as one move
`least_squares`   problems of random features and of data
`texts`           all of these from texts and tables, as options and files have them
`run`             everything that determines the numbers of a run
`devices`         where a run may be, and whether there is a usable GPU
================  ===============================================================
"""
