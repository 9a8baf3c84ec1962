"""What schemathesis cannot make up: a photograph with a face, whole and damaged, wherever a file is asked for."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from skimage import data

_file = io.BytesIO()
Image.fromarray(data.astronaut()).save(_file, "JPEG", quality=80)
PHOTO = _file.getvalue()

photos = st.one_of(
    st.just(PHOTO), st.integers(0, len(PHOTO)).map(lambda length: PHOTO[:length]), st.binary(max_size=4096)
)

schemathesis.openapi.format("binary", photos)
for _media_type in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(_media_type, photos)
