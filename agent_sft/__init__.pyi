from agent_sft.client import CapabilityRef as CapabilityRef
from agent_sft.client import Client as Client
from agent_sft.client import DatasetRef as DatasetRef
from agent_sft.client import Job as Job
from agent_sft.client import SFTJob as SFTJob
from agent_sft.experiment import Experiment as Experiment

__version__: str
