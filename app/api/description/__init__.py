"""Parts of the OpenAPI document that routes and schemas do not give: descriptions, examples, headers."""
