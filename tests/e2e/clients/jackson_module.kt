package com.fasterxml.jackson.module.kotlin

import com.fasterxml.jackson.annotation.JsonCreator
import com.fasterxml.jackson.core.JsonGenerator
import com.fasterxml.jackson.core.JsonParser
import com.fasterxml.jackson.databind.DeserializationContext
import com.fasterxml.jackson.databind.JsonDeserializer
import com.fasterxml.jackson.databind.JsonSerializer
import com.fasterxml.jackson.databind.ObjectMapper
import com.fasterxml.jackson.databind.SerializerProvider
import com.fasterxml.jackson.databind.cfg.MapperConfig
import com.fasterxml.jackson.databind.introspect.Annotated
import com.fasterxml.jackson.databind.introspect.AnnotatedConstructor
import com.fasterxml.jackson.databind.introspect.JacksonAnnotationIntrospector
import com.fasterxml.jackson.databind.module.SimpleModule
import java.time.OffsetDateTime

/**
 * What the generated client uses of Jackson's Kotlin and time modules, which no registry that CI reaches offers:
 * objects are made by the constructor whose parameters are all annotated, and times are RFC 3339.
 */
fun jacksonObjectMapper(): ObjectMapper =
    ObjectMapper().setAnnotationIntrospector(PrimaryConstructors()).registerModule(times())

private class PrimaryConstructors : JacksonAnnotationIntrospector() {
    override fun findCreatorAnnotation(config: MapperConfig<*>, annotated: Annotated): JsonCreator.Mode? {
        val isPrimary = annotated is AnnotatedConstructor && annotated.parameterCount > 0 &&
            (0 until annotated.parameterCount).all { findNameForDeserialization(annotated.getParameter(it)) != null }
        return if (isPrimary) JsonCreator.Mode.PROPERTIES else super.findCreatorAnnotation(config, annotated)
    }
}

private fun times() = SimpleModule()
    .addSerializer(OffsetDateTime::class.java, object : JsonSerializer<OffsetDateTime>() {
        override fun serialize(value: OffsetDateTime, json: JsonGenerator, provider: SerializerProvider) =
            json.writeString(value.toString())
    })
    .addDeserializer(OffsetDateTime::class.java, object : JsonDeserializer<OffsetDateTime>() {
        override fun deserialize(json: JsonParser, context: DeserializationContext): OffsetDateTime =
            OffsetDateTime.parse(json.text)
    })
