"""What a notebook can click: the silo picker and the panel of a run. Core ipywidgets only."""
