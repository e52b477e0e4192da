"""The verbs that are no stage of the pipeline."""
