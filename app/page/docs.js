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

SwaggerUIBundle({
  plugins: [fresh],
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
});
