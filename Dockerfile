# The server, for the model that comes with the package:
#
#   docker build -t sa2sr .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 sa2sr
#
# For another, add: -v "$PWD/runs/emotion/model:/model:ro" -e SA2SR_MODEL=/model
#
# With -e SA2SR_TOKEN=... clients must show that token. The server computes with onnxruntime; what only training needs,
# PyTorch above all, is left out.
FROM python:3.12-slim

WORKDIR /opt/sa2sr
COPY . .

RUN python -c "import re, tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
needed = {'filelock', 'numpy', 'pydantic', 'pyyaml', 'rich', 'safetensors', 'scipy', 'soundfile', 'soxr', 'typer'}; \
extras = project['optional-dependencies']; \
core = [each for each in project['dependencies'] if re.match(r'[\w-]+', each)[0] in needed]; \
print(*core, *extras['av'], *extras['onnx'], *extras['serve'], sep='\n')" > requirements.txt
RUN pip install --no-cache-dir -r requirements.txt && pip install --no-cache-dir --no-deps .

RUN useradd --system --no-create-home --shell /usr/sbin/nologin sa2sr
USER sa2sr
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["sa2sr"]
CMD ["serve", "--host", "0.0.0.0"]
