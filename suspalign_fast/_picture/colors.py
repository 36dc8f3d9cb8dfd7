"""Colours of Okabe and Ito (2008), which people of any colour vision tell apart, and greys."""

DOMINANT, BULK, EXACT, CRITICAL, SHADE = "#D55E00", "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SIMULATED, TOTAL, QUIET = "0.15", "0.8", "0.35"
#: The same colours for every row of curves whose average is drawn on them.
PALE_DOMINANT, PALE_BULK, PALE_CRITICAL, PALE = "#F2C4A3", "#A6CEE3", "#A3DCCB", "0.72"
