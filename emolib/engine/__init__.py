"""The thin nnsight helper: sites, edits, models, and one engine that encodes once and replays the rest."""
