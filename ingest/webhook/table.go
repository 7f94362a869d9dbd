package webhook

import (
	"time"

	"millrace/ingest"
)

// schemes are the senders that are known, one row each; what a row leaves out has the default of [Resolve]. Each has a vector in vectors_test.go
// that its maker published; a sender without one is not here, and can be declared in the configuration with the same fields.
var schemes = map[string]ingest.Scheme{
	// For whoever can not sign. It must be written out.
	"none": {Algorithm: "none"},

	// A secret that is sent as it is: as Authorization: Bearer, or behind the source's name in the path.
	"token": {Algorithm: "token", Signature: ingest.Places{"bearer", "path"}, Encoding: "raw"},

	// RFC 7617. A secret is user:password.
	"basic": {Algorithm: "token", Signature: ingest.Places{"Authorization"}, Prefix: "Basic ", Encoding: "base64"},

	// HMAC-SHA256 of the body in hex, which is what most senders mean by "we sign with HMAC"; a source says what is different.
	"hmac": {Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Signature"}},

	// docs.stripe.com/webhooks: "Verify webhook signatures manually". There are several v1 while a secret is rolled; v0 is ignored.
	"stripe": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"Stripe-Signature"}, Split: ",", Prefix: "v1=", Payload: "{ts}.{body}",
		Timestamp: ingest.Places{"part:t="}, ID: ingest.Places{"json:/id"}, Type: ingest.Places{"json:/type"},
	},

	// docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries. A redelivery by hand has the id of the first.
	"github": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Hub-Signature-256"}, Prefix: "sha256=",
		ID: ingest.Places{"X-GitHub-Delivery"}, Type: ingest.Places{"X-GitHub-Event"},
	},

	// shopify.dev/docs/apps/build/webhooks. The event id is the same in every attempt, and may be in webhooks of several topics.
	"shopify": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Shopify-Hmac-Sha256"}, Encoding: "base64",
		ID: ingest.Places{"X-Shopify-Event-Id+X-Shopify-Topic", "X-Shopify-Webhook-Id"}, Type: ingest.Places{"X-Shopify-Topic"},
	},

	// api.slack.com/authentication/verifying-requests-from-slack. A body in the answer would be shown to people, so there is none.
	"slack": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Slack-Signature"}, Prefix: "v0=", Payload: "v0:{ts}:{body}",
		Timestamp: ingest.Places{"X-Slack-Request-Timestamp"}, ID: ingest.Places{"json:/event_id", "form:trigger_id"},
		Type: ingest.Places{"json:/event/type", "json:/type", "form:command"},
		Handshakes: []ingest.Handshake{{
			Method: "POST", When: map[string]string{"json:/type": "url_verification"}, Signed: true,
			Reply: ingest.Reply{Body: "{json:/challenge}"},
		}},
		Reply: ingest.Reply{Status: 200},
	},

	// github.com/standard-webhooks/standard-webhooks: Svix, Clerk, Resend, OpenAI and others. Svix's own header names are taken, too.
	"standard": standard,
	"svix":     standard,

	// The same with Ed25519; a secret is the sender's public key.
	"standard-ed25519": {
		Algorithm: "ed25519", Signature: standard.Signature, Split: " ", Prefix: "v1a,", Encoding: "base64", Payload: standard.Payload,
		Key: "base64", KeyPrefix: "whpk_", Timestamp: standard.Timestamp, ID: standard.ID, Type: standard.Type,
	},

	// docs.gitlab.com/user/project/integrations/webhooks: the secret token.
	"gitlab": {
		Algorithm: "token", Signature: ingest.Places{"X-Gitlab-Token"}, Encoding: "raw",
		ID: gitlabID, Type: ingest.Places{"X-Gitlab-Event"},
	},

	// The same page: the signing token, which is that of Standard Webhooks.
	"gitlab-signed": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"webhook-signature"}, Split: " ", Prefix: "v1,", Encoding: "base64",
		Payload: "{header:webhook-id}.{ts}.{body}", Key: "base64", KeyPrefix: "whsec_", Timestamp: ingest.Places{"webhook-timestamp"},
		ID: append(ingest.Places{"webhook-id"}, gitlabID...), Type: ingest.Places{"X-Gitlab-Event"},
	},

	// twilio.com/docs/usage/security. An empty answer in TwiML says that nothing more is to be done with the call or the message.
	"twilio": {
		Algorithm: "hmac-sha1", Signature: ingest.Places{"X-Twilio-Signature"}, Encoding: "base64", Payload: "{url}{form}",
		BodyHash: "query:bodySHA256", ID: ingest.Places{"I-Twilio-Idempotency-Token"},
		Reply: ingest.Reply{Type: "text/xml; charset=utf-8", Body: "<Response/>"},
	},

	// docs.sendgrid.com, "Event Webhook Security Features". A secret is the verification key: base64 of a public key. The body is an array
	// and has no id of its own. How old a repeat's time may be is not documented, so it is not checked.
	"sendgrid": {
		Algorithm: "ecdsa-p256", Signature: ingest.Places{"X-Twilio-Email-Event-Webhook-Signature"}, Encoding: "base64", Key: "base64",
		Payload: "{ts}{body}", Timestamp: ingest.Places{"X-Twilio-Email-Event-Webhook-Timestamp"}, Tolerance: -1,
	},

	// developer.paddle.com/webhooks/signature-verification.
	"paddle": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"Paddle-Signature"}, Split: ";", Prefix: "h1=", Payload: "{ts}:{body}",
		Timestamp: ingest.Places{"part:ts="}, ID: ingest.Places{"json:/event_id"}, Type: ingest.Places{"json:/event_type"},
	},

	// developer.squareup.com/docs/webhooks/step3validate. A secret is the signature key of the subscription.
	"square": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Square-HmacSha256-Signature"}, Encoding: "base64", Payload: "{url}{body}",
		ID: ingest.Places{"json:/event_id"}, Type: ingest.Places{"json:/type"},
	},

	// developers.hubspot.com, "Validating requests": versions 1 and 2, a hash over the client secret and what was sent.
	"hubspot-v1": {Algorithm: "sha256", Signature: ingest.Places{"X-HubSpot-Signature"}, Payload: "{secret}{body}"},
	"hubspot-v2": {Algorithm: "sha256", Signature: ingest.Places{"X-HubSpot-Signature"}, Payload: "{secret}{method}{url}{body}"},

	// support.atlassian.com/bitbucket-cloud, "Manage webhooks", and developer.atlassian.com/cloud/jira, "Webhooks": the header of WebSub,
	// which here means SHA-256.
	"bitbucket": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Hub-Signature"}, Prefix: "sha256=",
		ID: ingest.Places{"X-Request-UUID"}, Type: ingest.Places{"X-Event-Key"},
	},
	"jira": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-Hub-Signature"}, Prefix: "sha256=",
		ID: ingest.Places{"X-Atlassian-Webhook-Identifier"}, Type: ingest.Places{"json:/webhookEvent"},
	},

	// developer.pagerduty.com/docs/webhooks-v3-signatures: one v1 for each live secret.
	"pagerduty": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"X-PagerDuty-Signature"}, Split: ",", Prefix: "v1=",
		ID: ingest.Places{"json:/event/id"}, Type: ingest.Places{"json:/event/event_type"},
	},

	// developer.box.com/guides/webhooks/v2/signatures-v2: a primary and a secondary key, of which one may be new.
	"box": {
		Algorithm: "hmac-sha256", Signature: ingest.Places{"BOX-SIGNATURE-PRIMARY", "BOX-SIGNATURE-SECONDARY"}, Encoding: "base64",
		Payload: "{body}{header:BOX-DELIVERY-TIMESTAMP}", Timestamp: ingest.Places{"BOX-DELIVERY-TIMESTAMP"}, TimestampUnit: "rfc3339",
		Tolerance: 10 * time.Minute, ID: ingest.Places{"BOX-DELIVERY-ID"}, Type: ingest.Places{"json:/trigger"},
	},

	// docs.adyen.com/development-resources/webhooks/verify-hmac-signatures: each item has its own signature inside. Adyen stops sending
	// unless it is answered [accepted].
	"adyen": {
		Algorithm: "hmac-sha256", Items: "/notificationItems", Encoding: "base64", Key: "hex",
		Signature: ingest.Places{"json:/NotificationRequestItem/additionalData/hmacSignature"},
		Payload: "{json:/NotificationRequestItem/pspReference}:{json:/NotificationRequestItem/originalReference}:" +
			"{json:/NotificationRequestItem/merchantAccountCode}:{json:/NotificationRequestItem/merchantReference}:" +
			"{json:/NotificationRequestItem/amount/value}:{json:/NotificationRequestItem/amount/currency}:" +
			"{json:/NotificationRequestItem/eventCode}:{json:/NotificationRequestItem/success}",
		ID: ingest.Places{"json:/notificationItems/0/NotificationRequestItem/pspReference+json:/notificationItems/0/NotificationRequestItem/eventCode+" +
			"json:/notificationItems/0/NotificationRequestItem/success"},
		Type:  ingest.Places{"json:/notificationItems/0/NotificationRequestItem/eventCode"},
		Reply: ingest.Reply{Body: "[accepted]"},
	},
}

var standard = ingest.Scheme{
	Algorithm: "hmac-sha256", Signature: ingest.Places{"webhook-signature", "svix-signature"}, Split: " ", Prefix: "v1,", Encoding: "base64",
	Payload: "{id}.{ts}.{body}", Key: "base64", KeyPrefix: "whsec_", Timestamp: ingest.Places{"webhook-timestamp", "svix-timestamp"},
	ID: ingest.Places{"webhook-id", "svix-id"}, Type: ingest.Places{"json:/type", "json:/event_type"},
}

// gitlabID are the headers with the id of a delivery: the first since 17.4, the same in every attempt.
var gitlabID = ingest.Places{"Idempotency-Key", "X-Gitlab-Event-UUID"}
