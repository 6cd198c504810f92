"""What users write and read: the resources as pydantic models, and the CRDs generated from them."""
