"""What every layer uses and that knows nothing of SGD.

===========  ===============================================================
`checks`     checks of arguments: one sentence with name, value and what was expected
`values`     equality and pickling, by value
`code`       what a function computes, as a text
`words`      texts of users and files, as they are printed
`registry`   registries: names for noise models, rules, optimizers, engines
`threads`    how many threads may work
`memory`     what memory a computation takes, against what is left
`executors`  work handed to executors, and signals that end it
`reports`    errors, progress, and where a result comes from
`old_paths`  modules under the names that they had
===========  ===============================================================
"""
