"""The same job on Azure Machine Learning: real silos, one pipeline step for each step of the plan."""
