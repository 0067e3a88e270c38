// Uploads files with tus-js-client, all at the same time, and says as JSON what became of each.
//   node tus_upload.js '{"endpoint": URL, "paths": [PATH, …], "options": {…}, "resume": {PATH: URL, …}}'
const fs = require('node:fs')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const tus = require('tus-js-client')

const asked = JSON.parse(process.argv[2])

function upload(file) {
  return new Promise((resolve, reject) => {
    let interruptions = 0
    const bytes = fs.createReadStream(file)
    // Of a file the client knows the length.
    const source = asked.options?.uploadLengthDeferred ? bytes.pipe(new PassThrough()) : bytes
    const one = new tus.Upload(source, {
      endpoint: asked.endpoint,
      metadata: { filename: path.basename(file), filetype: 'text/x-of-the-tests' },
      retryDelays: Array(100).fill(100),
      uploadUrl: asked.resume?.[file],
      onShouldRetry: () => {
        interruptions += 1
        return true
      },
      onError: reject,
      onSuccess: ({ lastResponse }) =>
        resolve({ path: file, url: one.url, fileId: lastResponse.getHeader('X-File-Id'), interruptions }),
      ...asked.options,
    })
    one.start()
  })
}

Promise.all(asked.paths.map(upload)).then(
  (uploads) => console.log(JSON.stringify(uploads)),
  (error) => {
    console.error(error.message)
    process.exitCode = 1
  },
)
