// Gives the SDK `count` events of all six types, closes it, and prints what the SDK says became of them.
// usage: node send.mjs SDKS HOST WRITE_KEY COUNT, where SDKS is the directory of node_modules
import { createRequire } from 'node:module'

const [sdks, host, writeKey, count] = process.argv.slice(2)
const { Analytics } = createRequire(sdks + '/')('@segment/analytics-node')

const analytics = new Analytics({ writeKey, host }) // host is the only option that points it at millrace
const given = {}
const errors = []
let called = 0
analytics.on('error', (err) => errors.push(`${err.code}: ${err.reason}`))

const calls = {
  identify: (i, done) => analytics.identify({ userId: `user-${i}`, traits: { plan: 'free', n: i } }, done),
  track: (i, done) => analytics.track({ userId: `user-${i}`, event: 'Order Completed', properties: { total: i + 0.5, note: 'Zürich, 東京' } }, done),
  page: (i, done) => analytics.page({ userId: `user-${i}`, category: 'Docs', name: 'Quick start' }, done),
  screen: (i, done) => analytics.screen({ userId: `user-${i}`, name: 'Privacy' }, done),
  group: (i, done) => analytics.group({ userId: `user-${i}`, groupId: `group-${i}`, traits: { seats: i } }, done),
  alias: (i, done) => analytics.alias({ userId: `user-${i}`, previousId: `visitor-${i}` }, done),
}
const types = Object.keys(calls)

for (let i = 0; i < Number(count); i++) {
  const type = types[i % types.length]
  calls[type](i, (err, ctx) => { // called when the event is delivered, or given up
    called++
    if (err) errors.push(`${type}: ${err}`)
    if (ctx.failedDelivery()) errors.push(`${type} ${i} not delivered: ${ctx.failedDelivery().reason}`)
    given[ctx.event.messageId] = ctx.event.type
  })
}

await analytics.closeAndFlush()
if (called !== Number(count)) errors.push(`${called} of ${count} events were called back`)
console.log(JSON.stringify({ given, errors }))
