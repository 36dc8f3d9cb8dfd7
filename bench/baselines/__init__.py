"""The same simulation as a good user of another library would write it, a library a file.

Every class takes a problem with isotropic noise and a constant step size; ``run(num_steps)``
advances and returns loss and alignment before each of those steps.
"""
