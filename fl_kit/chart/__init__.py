"""Pictures of convergence: events → `Curves` → `Scene` → SVG or PNG.

look     which metrics, on which axis, beside which lines
curves   the fold of events into what a picture shows
words    the same in words: progress line, summary, description
scene    drawing primitives        scale, labels, axes   where things go
panel    one metric over all rounds        small   one small panel a silo
layout   `picture`: the whole scene        svg, figure   the scene as SVG, as PNG
frontend which front end is there          views   one way of showing for each
"""
