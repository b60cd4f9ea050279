"""Whether jobs will run here, and what to do where they will not. Stands above the stages, as it asks what they ask."""
