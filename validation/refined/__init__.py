"""The refined model against records: predictions, fits, errors on shapes that no fit has seen, and what each term does.

``python -m sparsity_roofline.validation.refined RUN... --out FOLDER`` writes the tables.
"""
