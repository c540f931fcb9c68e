from .engine.checks import UnsupportedModel as UnsupportedModel
from .engine.checks import check_model as check_model
from .engine.edits import Add as Add
from .engine.edits import Edit as Edit
from .engine.edits import Mean as Mean
from .engine.edits import Noise as Noise
from .engine.edits import Operation as Operation
from .engine.edits import Patch as Patch
from .engine.edits import ProjectOut as ProjectOut
from .engine.edits import Where as Where
from .engine.edits import Zero as Zero
from .engine.engine import Encoding as Encoding
from .engine.engine import Encodings as Encodings
from .engine.engine import Engine as Engine
from .engine.labels import label_tokens as label_tokens
from .engine.loading import load as load
from .engine.model import Model as Model
from .engine.model import wrap_model as wrap_model
from .engine.oracle import plain as plain
from .engine.sites import COMPONENTS as COMPONENTS
from .engine.sites import Component as Component
from .engine.sites import layer_number as layer_number
from .engine.sites import span_layers as span_layers
from .engine.sweeps import Sweep as Sweep
from .engine.sweeps import sweep as sweep
from .engine.tiny import tiny_model as tiny_model

__version__: str
