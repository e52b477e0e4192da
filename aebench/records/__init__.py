"""The typed content of each file that crosses a stage: one module per stage that writes it."""
