"""Drawings of traces and studies.

============  ===============================================================
`trace`       `plot_trace`
`study`       `plot_study`
`panels`      the panels of the picture of a trace
`curves`      one curve against step
`headings`    colours, headings and keys
`load`        importing Matplotlib when the first picture is drawn
`figure`      a figure that draws itself alike in a file, in a notebook and on a screen
`caption`     what a picture says about its run
`study_view`  what a picture shows of a study
`points`      lines of a study
`heat`        heat maps of a study
`grid_axis`   an axis of a study in a picture
============  ===============================================================
"""
