"""What the public conformance rubric asks of a credential (C2PA Conformance Program 0.2 for specification 2.4, 2026-08-06), said again as
plain rules over the library's crJSON; `scripts/conformance` runs the published rubric itself.

Source: c2pa-org/conformance-public, asset-rubrics/asset-rubric-conformance0.2-spec2.4.yml. Left out are its rules about
fonts, TIFF, external references and alternative representations, none of which are written here.
"""

from __future__ import annotations

import io
import json
from typing import Any

import c2pa

INCEPTION = {"c2pa.created", "c2pa.opened"}
NOT_SEEN = {
    "c2pa.converted", "c2pa.published", "c2pa.repackaged", "c2pa.transcoded", "c2pa.resized.proportional", "c2pa.enhanced",
    "c2pa.edited.metadata", "c2pa.watermarked", "c2pa.watermarked.bound", "c2pa.watermarked.unbound", "c2pa.redacted",
}  # fmt: skip
"""Actions that change nothing that is seen, so that they need no source type."""
ASSERTIONS = {
    "c2pa.hash.data", "c2pa.hash.boxes", "c2pa.actions.v2", "c2pa.ingredient.v3", "c2pa.soft-binding", "c2pa.ai-disclosure",
}  # fmt: skip
"""Those that we may write, of the rubric's list."""
ACTIONS = {"c2pa.created", "c2pa.opened", "c2pa.edited", "c2pa.placed", "c2pa.watermarked.bound", "c2pa.transcoded", "c2pa.converted"}
PARAMETERS = {"ingredients", "description", "relatedAssertions"}


def store_of(data: bytes, media_type: str) -> dict[str, Any]:
    """What the library reads in a signed file, as crJSON."""
    with c2pa.Reader(media_type, io.BytesIO(data)) as reader:
        store: dict[str, Any] = json.loads(reader.crjson())
    return store


def actions_of(store: dict[str, Any]) -> list[dict[str, Any]]:
    """The actions of the active manifest, in order."""
    return [action for kind in store["manifests"][0]["assertions"].values() for action in kind.get("actions", ())]


def faults(store: dict[str, Any]) -> list[str]:
    """The rules that a file's active manifest breaks, by their published names."""
    manifest = store["manifests"][0]
    assertions, claim, actions = manifest["assertions"], manifest["claim.v2"], actions_of(store)
    labels = [label.split("__")[0] for label in assertions]
    ingredients = [item for item in assertions.values() if "relationship" in item]
    generator = claim["claim_generator_info"]
    generator = generator[0] if isinstance(generator, list) else generator
    created = next((item["url"] for item in claim["created_assertions"] if "c2pa.actions" in item["url"]), "")
    failures = {item["code"] for item in manifest["validationResults"]["failure"]}
    own = [name for action in actions for name in action.get("parameters", ()) if name not in PARAMETERS]
    opened = [action.get("parameters", {}).get("ingredients", ()) for action in actions if action["action"] == "c2pa.opened"]
    seen = [action for action in actions if action["action"] not in NOT_SEEN | INCEPTION | {"c2pa.placed"}]
    rules = {
        "mandatory_dst_for_perceptible_transformations": all("digitalSourceType" in action for action in seen),
        "mandatory_dst_for_created_action": all("digitalSourceType" in action for action in actions if action["action"] == "c2pa.created"),
        "mandatory_spec_version": str(generator.get("specVersion", "")).split(".")[:2] == ["2", "4"],
        "mandatory_all_actions_included": all("allActionsIncluded" in item for item in assertions.values() if "actions" in item),
        "no_dst_for_opened_action": not any("digitalSourceType" in action for action in actions if action["action"] == "c2pa.opened"),
        "well_formed_success, valid_success": failures <= {"signingCredential.untrusted"},
        "inception_action_position": created.endswith("c2pa.actions.v2") and actions[0]["action"] in INCEPTION,
        "no_unsupported_assertions": all(label in ASSERTIONS for label in labels if label.startswith("c2pa.")),
        "no_unrecognized_custom_assertions": all("." in label for label in labels)
        and not any(label.startswith("stds.") for label in labels),
        "no_unsupported_actions": all(action["action"] in ACTIONS for action in actions),
        "no_unrecognized_custom_action_parameters": all("." in name for name in own),
        "discouraged_legacy_action_parameters": not any({"description", "ingredient"} & set(a.get("parameters", ())) for a in actions),
        "active_manifest_urn": manifest["label"].startswith("urn:c2pa:"),
        "ingredient_relationship_values": all(item["relationship"] in ("parentOf", "inputTo", "componentOf") for item in ingredients),
        "ingredient_v3_mandatory_validation_results": all(("activeManifest" in i) == ("validationResults" in i) for i in ingredients),
        "ingredient_v3_choice": not any("activeManifest" in item and "digitalSourceType" in item for item in ingredients),
        "no_deprecated_claim_fields": "specVersion" not in claim,
        "no_url_in_hashes": "url" not in assertions["c2pa.hash.data"],
        "opened_action_ingredient_reference": all(len(references) == 1 for references in opened),
    }
    return [name for name, kept in rules.items() if not kept]
