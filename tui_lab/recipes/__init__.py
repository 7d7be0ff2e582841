"""Training recipes: schema, rules, presets, and how unset fields are resolved."""
