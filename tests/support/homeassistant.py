"""Stands in for Home Assistant: renders the templates of camfire's discovery payloads and of an automation.

Home Assistant renders templates with Jinja2, in a sandbox. This does the same, with those of its own filters and
globals that the templates use, and keeps the states of the entities like its MQTT integration.

stdin: {"messages": [{"topic": ..., "payload": ..., "retained": ...}, ...], "automation": YAML text}
stdout: {"entities": {entity id: {"state": ..., "attributes": ..., "states": [every state in turn]}},
         "fired": [{"message": ..., "data": {"image": ..., ...}, "uid": ...}, ...]}
Errors: exit status 1 with the text on stderr, if a template cannot be rendered or Home Assistant would refuse the
result.
"""

import json
import re
import sys
from types import SimpleNamespace

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
jinja.filters["to_json"] = json.dumps


def slug(text):
    """The part of an entity id that Home Assistant makes of a name."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def render(template, payload):
    try:
        value_json = json.loads(payload)
    except ValueError:
        value_json = None
    return jinja.from_string(template).render(value=payload, value_json=value_json)


class Entity:
    def __init__(self, key, platform, device, options):
        self.key, self.platform, self.options = key, platform, options
        self.id = f"{platform}.{slug(device + ' ' + options['name'])}"
        self.state, self.attributes, self.states = "unknown", {}, []
        for template in ("value_template", "json_attributes_template", "command_template"):
            if template in options:
                jinja.from_string(options[template])  # Reports syntax errors.

    def set(self, state):
        self.state = state
        self.states.append(state)

    def receive(self, topic, payload):
        """Returns whether the state was set."""
        options = self.options
        if topic == options.get("json_attributes_topic"):
            text = render(options.get("json_attributes_template", "{{ value }}"), payload)
            self.attributes = json.loads(text)
            assert isinstance(self.attributes, dict), text
        if topic not in (options.get("state_topic"), options.get("image_topic"), options.get("topic")):
            return False
        if self.platform in ("image", "camera"):
            self.set(payload)
            return True
        text = render(options.get("value_template", "{{ value }}"), payload)
        if self.platform == "event":
            event = json.loads(text)
            assert event["event_type"] in options["event_types"], text
            self.attributes = event
            self.set(event["event_type"])
        elif self.platform == "sensor":
            if options.get("device_class") == "enum":
                assert text in options["options"], f"{self.id}: {text} is not an option"
            elif text != "None" and options.get("device_class") != "timestamp" and "state_class" in options:
                float(text)
            self.set(text)
        elif self.platform in ("binary_sensor", "switch"):
            assert text in ("ON", "OFF"), f"{self.id}: {text}"
            self.set(text)
        elif self.platform == "number":
            assert options["min"] <= float(text) <= options["max"], f"{self.id}: {text}"
            self.set(text)
        return True


def main():
    given = json.load(sys.stdin)
    automation = yaml.safe_load(given["automation"])
    entities, fired, retained = {}, [], {}
    for message in given["messages"]:
        topic, payload = message["topic"], message["payload"]
        if topic.startswith("homeassistant/device/") and payload:
            config = json.loads(payload)
            for key, options in config["components"].items():
                entity = Entity(key, options["p"], config["device"]["name"], options)
                if entity.id not in entities:
                    entities[entity.id] = entity
                    # A new subscriber gets what the broker has retained.
                    for retained_topic, retained_payload in retained.items():
                        entity.receive(retained_topic, retained_payload)
            continue
        if message["retained"]:
            retained[topic] = payload
        for entity in entities.values():
            try:
                is_set = entity.receive(topic, payload)
            except Exception as error:
                sys.exit(f"{entity.id}: {error!r} for {topic} {payload[:500]}")
            triggers = automation["triggers"] if is_set else []
            if any(trigger["entity_id"] == entity.id for trigger in triggers):
                run(automation, entity, entities, fired)
    json.dump(
        {
            "entities": {
                id: {"state": entity.state, "attributes": entity.attributes, "states": entity.states}
                for id, entity in entities.items()
            },
            "fired": fired,
        },
        sys.stdout,
    )


def run(automation, entity, entities, fired):
    variables = {
        "trigger": SimpleNamespace(to_state=entity),
        # The address of an image stands for the image itself here.
        "state_attr": lambda id, name: entities[id].state if name == "entity_picture" else entities[id].attributes[name],
    }
    for condition in automation["conditions"]:
        if jinja.from_string(condition).render(variables) != "True":
            return
    data = automation["actions"][0]["data"]
    fired.append(
        {
            "message": jinja.from_string(data["message"]).render(variables),
            "data": {key: jinja.from_string(text).render(variables) for key, text in data["data"].items()},
            "uid": entity.attributes["uid"],
        }
    )


main()
