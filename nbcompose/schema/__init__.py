"""What apis take and give: annotations to validation, JSON, other forms, and the OpenAPI document."""

from nbcompose.schema.api import ApiSchema
from nbcompose.schema.fields import Part
from nbcompose.schema.files import TempFiles
from nbcompose.schema.openapi import openapi

__all__ = ["ApiSchema", "Part", "TempFiles", "openapi"]
