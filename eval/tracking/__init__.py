"""Trackers: runs tell TensorBoard, MLflow, Weights & Biases or CSV files of each round."""
