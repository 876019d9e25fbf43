"""The part of JSON Schema that the project's schemas use, for tests: jsonschema is not a package that everybody has."""

TYPES = {"object": dict, "string": str, "integer": int, "number": (int, float), "array": list}


def complaints(value, schema, root, name="line"):
    """What does not hold of a value; `root` is the whole schema, which references are to."""
    if "$ref" in schema:
        return complaints(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, name)
    found = []
    if "oneOf" in schema and sum(not complaints(value, one, root, name) for one in schema["oneOf"]) != 1:
        found.append(f"{name} is not of exactly one kind")
    for part in schema.get("allOf", ()):
        found += complaints(value, part, root, name)
    if "type" in schema and (not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool)):
        return [f"{name} is no {schema['type']}"]
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        found.append(f"{name} = {value}")
    if value_below(value, schema):
        found.append(f"{name} = {value} is too small")
    if isinstance(value, dict):
        found += [f"{name}.{key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            of_key = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            found += complaints(item, of_key, root, f"{name}.{key}") if of_key else []
    if isinstance(value, list) and "items" in schema:
        found += [complaint for i, item in enumerate(value) for complaint in complaints(item, schema["items"], root, f"{name}[{i}]")]
    return found


def value_below(value, schema):
    return "minimum" in schema and value < schema["minimum"] or "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]


def described(schema, root):
    """The properties that a schema describes, those of what it refers to included."""
    if "$ref" in schema:
        return described(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    return set(schema.get("properties", ())).union(*(described(part, root) for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()))))
