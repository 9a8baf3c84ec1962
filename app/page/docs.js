// Who changes the media type of a body gets the example of the new one. Swagger UI would hand the form on as JSON text.
const fresh = () => ({
  statePlugins: {
    oas3: {
      wrapActions: {
        setRequestContentType: (original, system) => (change) => {
          system.oas3Actions.setRequestBodyValue({ value: undefined, pathMethod: change.pathMethod });
          return original(change);
        },
      },
    },
  },
});

// Text is coloured as far as a person reads it. A tensor has a number a line, and each would become elements of its own.
const COLOURED = 20_000;
const plain = () => ({
  wrapComponents: {
    SyntaxHighlighter: (Original, system) => ({ renderPlainText, ...rest }) => {
      const { children = "" } = rest;
      if (children.length <= COLOURED) return system.React.createElement(Original, { renderPlainText, ...rest });
      return renderPlainText({ children, PlainTextViewer: system.getComponent("PlainTextViewer") });
    },
  },
});

// Swagger UI would resolve the whole of an OpenAPI 3.1 description anew for each operation that is opened.
const once = () => ({
  afterLoad() {
    const resolve = this.fn.resolveSubtree;
    let whole;
    this.fn.resolveSubtree = async (description, path, options) => {
      whole ??= resolve(description, [], options);
      const { spec, errors } = await whole;
      return { spec: path.reduce((part, step) => part?.[step], spec) ?? null, errors };
    };
  },
});

SwaggerUIBundle({
  plugins: [fresh, plain, once],
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0, // The list of schemas is closed: each operation shows its own.
  displayRequestDuration: true,
  persistAuthorization: false,
});
