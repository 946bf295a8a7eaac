"""Predict, measure and validate the speed of sparse neural-network weights."""
