"""Heavy parsing of strangers' content, in processes of its own with bounds on time and memory."""
