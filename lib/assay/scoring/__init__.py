"""Model + calibration + features -> predictions."""
