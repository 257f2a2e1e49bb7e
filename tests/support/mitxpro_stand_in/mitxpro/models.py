"""Base classes of the tables: timestamps and audit rows."""

import traceback

from django.conf import settings
from django.db import models, transaction
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.forms.models import model_to_dict

CALL_STACK_MAX_LENGTH = 750


class TimestampedModel(models.Model):
    created_on = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_on = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class AuditModel(TimestampedModel):
    acting_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+"
    )
    call_stack = models.CharField(
        default="", max_length=CALL_STACK_MAX_LENGTH, null=True, blank=True
    )
    data_before = models.JSONField(blank=True, null=True)
    data_after = models.JSONField(blank=True, null=True)

    class Meta:
        abstract = True


class ValidateOnSaveMixin(models.Model):
    """Validates each save, unless the caller forces an INSERT or UPDATE."""

    class Meta:
        abstract = True

    def save(self, force_insert=False, force_update=False, **kwargs):
        if not (force_insert or force_update):
            self.full_clean()
        super().save(force_insert=force_insert, force_update=force_update, **kwargs)


class AuditableModel(models.Model):
    class Meta:
        abstract = True

    def to_dict(self):
        return model_to_dict(self)

    @transaction.atomic
    def save_and_log(self, acting_user, *args, **kwargs):
        """Saves the row, and writes an audit row with its former and its new values."""
        before = type(self).all_objects.filter(pk=self.pk).first()
        self.save(*args, **kwargs)
        self.refresh_from_db()
        type(self).get_audit_class().objects.create(
            acting_user=acting_user,
            enrollment=self,
            # The code that calls this method, and that code's caller. The last two frames are those
            # of ``atomic`` and of this method.
            call_stack="".join(traceback.format_stack(limit=4)[:2])[:CALL_STACK_MAX_LENGTH],
            data_before=before.to_dict() if before else None,
            data_after=self.to_dict(),
        )


@receiver(pre_save)
def set_language_of_pages(sender, instance, **kwargs):
    """A receiver for all models, like one of Wagtail that both applications have."""
    if hasattr(instance, "locale_id") and instance.locale_id is None:
        instance.locale_id = 1
