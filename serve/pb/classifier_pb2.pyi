import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "version", "image", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    image: bytes
    options: ClassifyOptions
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., image: _Optional[bytes] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ...) -> None: ...

class ClassifyOptions(_message.Message):
    __slots__ = ("top_k", "language_code", "return_prepared", "return_steps", "min_familiarity")
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_PREPARED_FIELD_NUMBER: _ClassVar[int]
    RETURN_STEPS_FIELD_NUMBER: _ClassVar[int]
    MIN_FAMILIARITY_FIELD_NUMBER: _ClassVar[int]
    top_k: int
    language_code: str
    return_prepared: bool
    return_steps: bool
    min_familiarity: float
    def __init__(self, top_k: _Optional[int] = ..., language_code: _Optional[str] = ..., return_prepared: _Optional[bool] = ..., return_steps: _Optional[bool] = ..., min_familiarity: _Optional[float] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("classification", "model", "version", "precision")
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    classification: Classification
    model: str
    version: str
    precision: str
    def __init__(self, classification: _Optional[_Union[Classification, _Mapping]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("classes", "timing", "prepared_png", "steps", "notes", "familiarity", "unknown")
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    PREPARED_PNG_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    FAMILIARITY_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedCompositeFieldContainer[ClassProbability]
    timing: Timing
    prepared_png: bytes
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    notes: _containers.RepeatedScalarFieldContainer[str]
    familiarity: float
    unknown: bool
    def __init__(self, classes: _Optional[_Iterable[_Union[ClassProbability, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., prepared_png: _Optional[bytes] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ..., familiarity: _Optional[float] = ..., unknown: _Optional[bool] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("name", "png")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    name: str
    png: bytes
    def __init__(self, name: _Optional[str] = ..., png: _Optional[bytes] = ...) -> None: ...

class ClassProbability(_message.Message):
    __slots__ = ("label", "index", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    index: int
    probability: float
    def __init__(self, label: _Optional[str] = ..., index: _Optional[int] = ..., probability: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_us", "decode_us", "prepare_us", "inference_us", "total_us", "batch_size")
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    PREPARE_US_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    queue_us: int
    decode_us: int
    prepare_us: int
    inference_us: int
    total_us: int
    batch_size: int
    def __init__(self, queue_us: _Optional[int] = ..., decode_us: _Optional[int] = ..., prepare_us: _Optional[int] = ..., inference_us: _Optional[int] = ..., total_us: _Optional[int] = ..., batch_size: _Optional[int] = ...) -> None: ...

class BatchClassifyRequest(_message.Message):
    __slots__ = ("model", "version", "images", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    options: ClassifyOptions
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ...) -> None: ...

class BatchClassifyResponse(_message.Message):
    __slots__ = ("results", "model", "version", "precision")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchClassifyResult]
    model: str
    version: str
    precision: str
    def __init__(self, results: _Optional[_Iterable[_Union[BatchClassifyResult, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class BatchClassifyResult(_message.Message):
    __slots__ = ("classification", "error")
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    classification: Classification
    error: _status_pb2.Status
    def __init__(self, classification: _Optional[_Union[Classification, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StreamClassifyRequest(_message.Message):
    __slots__ = ("id", "model", "version", "image", "options")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    version: str
    image: bytes
    options: ClassifyOptions
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., image: _Optional[bytes] = ..., options: _Optional[_Union[ClassifyOptions, _Mapping]] = ...) -> None: ...

class StreamClassifyResponse(_message.Message):
    __slots__ = ("id", "classification", "error", "model", "version", "precision")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    classification: Classification
    error: _status_pb2.Status
    model: str
    version: str
    precision: str
    def __init__(self, id: _Optional[str] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "refused_models")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    refused_models: _containers.RepeatedCompositeFieldContainer[RefusedModel]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., refused_models: _Optional[_Iterable[_Union[RefusedModel, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "dataset", "label_sets", "input_shape", "input_colour", "prepare_policy", "precision", "device", "test_accuracy", "test_count", "parameter_count", "create_time", "source_commit", "recipe", "library_versions", "familiarity")
    class LibraryVersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    LABEL_SETS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    INPUT_COLOUR_FIELD_NUMBER: _ClassVar[int]
    PREPARE_POLICY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TEST_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    TEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COMMIT_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FAMILIARITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    dataset: str
    label_sets: _containers.RepeatedCompositeFieldContainer[LabelSet]
    input_shape: _containers.RepeatedScalarFieldContainer[int]
    input_colour: str
    prepare_policy: str
    precision: str
    device: str
    test_accuracy: float
    test_count: int
    parameter_count: int
    create_time: _timestamp_pb2.Timestamp
    source_commit: str
    recipe: _struct_pb2.Struct
    library_versions: _containers.ScalarMap[str, str]
    familiarity: _struct_pb2.Struct
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., dataset: _Optional[str] = ..., label_sets: _Optional[_Iterable[_Union[LabelSet, _Mapping]]] = ..., input_shape: _Optional[_Iterable[int]] = ..., input_colour: _Optional[str] = ..., prepare_policy: _Optional[str] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., test_accuracy: _Optional[float] = ..., test_count: _Optional[int] = ..., parameter_count: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source_commit: _Optional[str] = ..., recipe: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., library_versions: _Optional[_Mapping[str, str]] = ..., familiarity: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class LabelSet(_message.Message):
    __slots__ = ("language_code", "labels")
    LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    language_code: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, language_code: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class RefusedModel(_message.Message):
    __slots__ = ("name", "version", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
