// What an app does by openapi-generator's Kotlin client: list, page, get, flag, search, send, and read a problem.
// Arguments: base URL, token. Prints JSON.
import com.fasterxml.jackson.databind.JsonNode
import com.fasterxml.jackson.databind.ObjectMapper
import dev.postgate.client.apis.MessagesApi
import dev.postgate.client.apis.SendingApi
import dev.postgate.client.infrastructure.ApiClient
import dev.postgate.client.infrastructure.ClientError
import dev.postgate.client.infrastructure.ClientException
import dev.postgate.client.infrastructure.Serializer
import dev.postgate.client.models.ChangeRequest
import dev.postgate.client.models.FilterInput
import dev.postgate.client.models.KeywordChanges
import dev.postgate.client.models.MessageFull
import dev.postgate.client.models.MessageInputToInner
import dev.postgate.client.models.MessageSummary
import dev.postgate.client.models.SearchRequest
import dev.postgate.client.models.SendRequest

fun main(arguments: Array<String>) {
    val (baseUrl, token) = arguments
    ApiClient.accessToken = token
    val messages = MessagesApi(baseUrl)
    val sending = SendingApi(baseUrl)

    val page = messages.listMessages("me", limit = 3)
    val first = page.items.first().read<MessageSummary>()
    val second = messages.listMessages("me", limit = 3, cursor = page.nextCursor)
    val full = messages.getMessage("me", first.id, view = MessagesApi.ViewGetMessage.full).read<MessageFull>()
    val flagged = messages.updateMessage("me", first.id, ChangeRequest(keywords = KeywordChanges(add = listOf("\$flagged"))))
    val found = messages.searchMessages("me", SearchRequest(filter = FilterInput(from = first.from.first().address)))
    val order = SendRequest(to = listOf(MessageInputToInner(address = "bob@demo.test")), subject = "By Kotlin", text = "Hello")
    val sent = sending.sendMessage("me", order, idempotencyKey = "kotlin-1")
    val again = sending.sendMessage("me", order, idempotencyKey = "kotlin-1")
    val result = mapOf(
        "listed" to page.items.size,
        "paged" to second.items.size,
        "text" to full.text.isNotEmpty(),
        "keywords" to flagged.keywords,
        "found" to found.items.size,
        "sent" to sent.id,
        "again" to again.id,
        "problem" to problemOf { messages.getMessage("me", "msg_unknown") },
    )
    println(ObjectMapper().writeValueAsString(result))
}

/** A message as the class of its `view`: the generator's own type for a union cannot be read by Jackson. */
private inline fun <reified T> JsonNode.read(): T = Serializer.jacksonObjectMapper.treeToValue(this, T::class.java)

private fun problemOf(call: () -> Unit): String = try {
    call()
    "none"
} catch (error: ClientException) {
    ObjectMapper().readTree((error.response as ClientError<*>).body as String)["code"].asText()
}
