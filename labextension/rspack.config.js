// What is added to the configuration of @jupyter/builder. TypeScript's types are only checked elsewhere: `npm run check`.
module.exports = {
  // The same bytes, whatever the folder.
  optimization: { moduleIds: "named", chunkIds: "named" },
  resolve: { extensions: [".ts", ".js"] },
  module: {
    rules: [
      {
        test: /\.ts$/,
        loader: "builtin:swc-loader",
        options: { jsc: { parser: { syntax: "typescript" }, target: "es2022" } },
        type: "javascript/auto",
      },
    ],
  },
};
